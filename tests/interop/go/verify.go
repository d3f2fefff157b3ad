// Verify checks what Coldchain's log wrote with golang.org/x/mod/sumdb/{note,tlog}, the code that Go itself trusts, and
// answers with proofs and a note of its own making.
//
// Standard input is one JSON question, standard output one JSON answer; any error ends the program.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index, Size int64
	Leaf, Root  tlog.Hash
	Proof       []tlog.Hash
}

type consistency struct {
	Old, New         int64
	OldRoot, NewRoot tlog.Hash
	Proof            []tlog.Hash
}

type question struct {
	LogKey, WitnessKey, PrivateKey string
	Checkpoint                     string // a signed note
	Directory                      string // holds tile/...
	Entries                        []int64
	Olds                           []int64
	Inclusion                      []inclusion
	Consistency                    []consistency
}

type answer struct {
	Signers     []string
	Time        uint64
	Inclusion   []bool
	Consistency []bool
	OurEntries  [][]tlog.Hash // proofs made by Go from our tiles
	OurOlds     [][]tlog.Hash
	Note        string // signed by Go
}

// tiles reads tile files of tlog-tiles, whose paths lack the height that Go's have.
type tiles struct{ directory string }

func (t tiles) Height() int                         { return 8 }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.directory, path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

// witness verifies cosignature/v1, which x/mod does not know. It keeps the time it saw.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
	time uint64
}

func newWitness(vkey string) (*witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a vkey")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 || raw[0] != 4 {
		return nil, errors.New("not a cosignature key")
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(raw)))
	if fmt.Sprintf("%x", sum[:4]) != parts[1] {
		return nil, errors.New("not the key's id")
	}
	return &witness{name: parts[0], hash: binary.BigEndian.Uint32(sum[:4]), key: raw[1:]}, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }
func (w *witness) Verify(text, payload []byte) bool {
	if len(payload) != 8+ed25519.SignatureSize {
		return false
	}
	w.time = binary.BigEndian.Uint64(payload)
	return ed25519.Verify(w.key, append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", w.time)), text...), payload[8:])
}

func run(q question) (a answer, err error) {
	key, err := note.NewVerifier(q.LogKey)
	if err != nil {
		return a, err
	}
	cosigner, err := newWitness(q.WitnessKey)
	if err != nil {
		return a, err
	}
	opened, err := note.Open([]byte(q.Checkpoint), note.VerifierList(key, cosigner))
	if err != nil {
		return a, err
	}
	for _, signature := range opened.Sigs {
		a.Signers = append(a.Signers, signature.Name)
	}
	a.Time = cosigner.time
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		return a, errors.New("not a checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return a, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return a, err
	}

	for _, c := range q.Inclusion {
		a.Inclusion = append(a.Inclusion, tlog.CheckRecord(c.Proof, c.Size, c.Root, c.Index, c.Leaf) == nil)
	}
	for _, c := range q.Consistency {
		a.Consistency = append(a.Consistency, tlog.CheckTree(c.Proof, c.New, c.NewRoot, c.Old, c.OldRoot) == nil)
	}

	// TileHashReader believes no tile that is not under the checkpoint's root
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles{q.Directory})
	for _, index := range q.Entries {
		proof, err := tlog.ProveRecord(size, index, reader)
		if err != nil {
			return a, err
		}
		a.OurEntries = append(a.OurEntries, proof)
	}
	for _, old := range q.Olds {
		proof, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return a, err
		}
		a.OurOlds = append(a.OurOlds, proof)
	}
	all := tlog.NewTiles(8, 0, size)
	for i, tile := range all {
		if i+1 < len(all) && all[i+1].L == tile.L && all[i+1].N == tile.N {
			continue // older versions of x/mod also list every narrower tile at the edge
		}
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			return a, err
		}
		have, err := tiles{q.Directory}.ReadTiles([]tlog.Tile{tile})
		if err != nil {
			return a, err
		}
		if !bytes.Equal(want, have[0]) {
			return a, fmt.Errorf("%s differs", tile.Path())
		}
	}

	signer, err := note.NewSigner(q.PrivateKey)
	if err != nil {
		return a, err
	}
	signed, err := note.Sign(&note.Note{Text: opened.Text}, signer)
	a.Note = string(signed)
	return a, err
}

func main() {
	log.SetFlags(0)
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		log.Fatal(err)
	}
	a, err := run(q)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		log.Fatal(err)
	}
}
