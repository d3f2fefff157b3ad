"""Names of file types as containers, handlers and file magic use them: ``CL_TYPE_PDF``, ``CL_TYPE_ANY``.

An unknown name makes the engine drop a logical signature silently and refuse an ftm or cdb file.
Source: libclamav/filetypes.c, ftmap, of ClamAV 1.4.
"""

from __future__ import annotations

from coldchain_server.feeds.formats.clamav.grammar import Field, LineError, show

_NAMES = """
TEXT_ASCII TEXT_UTF8 TEXT_UTF16LE TEXT_UTF16BE BINARY_DATA IGNORED ANY MSEXE ELF MACHO MACHO_UNIBIN
POSIX_TAR OLD_TAR CPIO_OLD CPIO_ODC CPIO_NEWC CPIO_CRC GZ ZIP BZ RAR ARJ MSSZDD MSOLE2 MSCAB MSCHM SIS
SCRENC GRAPHICS GIF PNG JPEG TIFF RIFF BINHEX TNEF CRYPTFF PDF UUENCODED HTML_UTF16 SCRIPT RTF HTML MAIL
SFX ZIPSFX RARSFX CABSFX ARJSFX NULSFT AUTOIT ISHIELD_MSI 7Z 7ZSFX SWF ISO9660 JAVA DMG MBR GPT APM XAR
PART_ANY PART_HFSPLUS XZ OOXML_WORD OOXML_PPT OOXML_XL INTERNAL XDP XML_WORD XML_XL HWP3 XML_HWP HWPOLE2
OOXML_HWP PS MHTML LNK EGG EGGSFX UDF ALZ ONENOTE PYTHON_COMPILED LHA_LZH
"""
FILE_TYPES = frozenset(f"CL_TYPE_{name}".encode() for name in _NAMES.split())


def check_file_type(field: Field) -> bytes:
    """A file type's name.

    Raises:
        LineError: ``unknown-type``.
    """
    if field.data not in FILE_TYPES:
        raise LineError(
            field.column,
            "unknown-type",
            f"{show(field.data)} is no file type the engine knows",
            "use a name of the manual's list of file types, such as CL_TYPE_PDF",
        )
    return field.data
