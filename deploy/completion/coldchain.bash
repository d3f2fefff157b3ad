# bash completion for coldchain; made by deploy/make_completion.py
_coldchain() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options='' kind='' words=''
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "init update status verify agent diff explain pack mirror receipt approve compare monitor -h --help --version" -- "$current")
        return
    fi
    case ${COMP_WORDS[1]} in
    init)
        options="-h --help --json --root --fingerprint --region --policy --channel --url"
        kind="folder"
        case $before in
        --root) kind=value-file ;;
        --fingerprint) kind=value- ;;
        --region) kind=value- ;;
        --policy) kind=value-file ;;
        --channel) kind=value- ;;
        --url) kind=value-folder ;;
        esac
        ;;
    update)
        options="-h --help --json --url --pack --repair"
        kind="folder"
        case $before in
        --url) kind=value-folder ;;
        --pack) kind=value-file ;;
        esac
        ;;
    status)
        options="-h --help --json"
        kind="folder"
        ;;
    verify)
        options="-h --help --json --root --region --channel --policy"
        kind="file"
        case $before in
        --root) kind=value-file ;;
        --region) kind=value- ;;
        --channel) kind=value- ;;
        --policy) kind=value-file ;;
        esac
        ;;
    agent)
        options="-h --help --json --metrics"
        kind="folder"
        case $before in
        --metrics) kind=value-file ;;
        esac
        ;;
    diff)
        options="-h --help --json --names"
        kind="folder"
        case $before in
        --names) kind=value- ;;
        esac
        ;;
    explain)
        options="-h --help --json --history"
        kind="folder"
        ;;
    pack)
        options="-h --help --json --root --region --channel --from --policy -o --output"
        kind="folder"
        case $before in
        --root) kind=value-file ;;
        --region) kind=value- ;;
        --channel) kind=value- ;;
        --from) kind=value- ;;
        --policy) kind=value-file ;;
        -o | --output) kind=value-file ;;
        esac
        ;;
    mirror)
        options="-h --help --json --region --url --root --policy --packs --no-packs --grace --check"
        kind="folder"
        case $before in
        --region) kind=value- ;;
        --url) kind=value-folder ;;
        --root) kind=value-file ;;
        --policy) kind=value-file ;;
        --grace) kind=value- ;;
        esac
        ;;
    receipt)
        options="-h --help --json -o --output --sign --new-key --check --root --key"
        kind="folder"
        case $before in
        -o | --output) kind=value-file ;;
        --sign) kind=value- ;;
        --new-key) kind=value-file ;;
        --check) kind=value-file ;;
        --root) kind=value-file ;;
        --key) kind=value- ;;
        esac
        ;;
    approve)
        options="-h --help --json --key --name --new-key -o --output"
        kind="folder"
        case $before in
        --key) kind=value-file ;;
        --name) kind=value- ;;
        --new-key) kind=value-file ;;
        -o | --output) kind=value- ;;
        esac
        ;;
    compare)
        options="-h --help --json --root --policy --channel --release"
        kind="folder"
        case $before in
        --root) kind=value-file ;;
        --policy) kind=value-file ;;
        --channel) kind=value- ;;
        --release) kind=value- ;;
        esac
        ;;
    monitor)
        options="-h --help --json --state --root --policy --once --interval --patience --metrics --all --acknowledge"
        kind="folder"
        case $before in
        --state) kind=value-folder ;;
        --root) kind=value-file ;;
        --policy) kind=value-file ;;
        --interval) kind=value- ;;
        --patience) kind=value- ;;
        --metrics) kind=value-file ;;
        esac
        ;;
    *) return ;;
    esac
    if [[ $kind != value* && $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    case $kind in
    *words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
    *file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    *folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    esac
}
complete -F _coldchain coldchain
