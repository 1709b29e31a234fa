"""What an audio file's container says, read before the file is decoded.

    missing_part(data)                  # None, or "its header promises 1,600 bytes more than ..."
    other_format(data)                  # None, or "an MP4 or M4A file"

libsndfile decodes what is left of a shortened file and says nothing, so the length that a header
promises is compared with the length that is there. Containers for which neither libsndfile nor
this module can tell whether they are whole are not read (:data:`FORMATS`).
"""

import struct
import zlib

__all__ = ["FORMATS", "missing_part", "other_format"]

# libsndfile's names of the formats of which a shortened file is noticed, here or there.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "HTK")

# What writers to a pipe, who cannot seek back, put where a length of 32 bits belongs: sox's
# 0x7F000000 (AIFF) and 0x7FFFF000 (WAV), both less up to a block; ffmpeg's 0xFFFFFFFF, less a
# header; and 2 GiB.
_BLOCK = 0x2000
_PLACEHOLDERS = (
    (0x7F000000 - _BLOCK, 0x7F000000 + _BLOCK),
    (0x7FFFF000 - _BLOCK, 0x80000000),
    (0xFFFFFFFF - _BLOCK, 0xFFFFFFFF),
)

# Of layer III, by the number in a frame's header: of MPEG-2, and of MPEG-1. 0: not said, or none.
_MP3_KILOBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)

_W64_GUID = bytes.fromhex("F3ACD3118CD100C04F8EDB8A")
_OGG_HEADER = struct.Struct("<4sBBqIIIB")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def missing_part(data: bytes) -> str | None:
    """Half a sentence on what a file lacks of what its container promises, or None.

    Args:
      data: the file's bytes. Other formats than those below give None.
    """
    if data.startswith(b"OggS"):
        return _missing_pages(data)
    for starts, reader in (
        ((b"RIFF", b"RIFX", b"RF64"), _missing_of_wave),
        ((b"riff" + bytes.fromhex("2E91CF11A5D628DB"),), _missing_of_w64),
        ((b"FORM",), _missing_of_aiff),
        ((b".snd", b"dns."), _missing_of_au),
        ((b"caff",), _missing_of_caf),
        ((b"NIST_1A",), _missing_of_nist),
    ):
        if data.startswith(starts):
            missing = reader(data)
            if missing > 0:
                return f"its header promises {missing:,} bytes more than it holds"
    if _missing_of_mp3(data) > 0:
        return "its last frame is cut"
    return None


def _is_unknown(size: int) -> bool:
    return any(low <= size <= high for low, high in _PLACEHOLDERS)


def _missing_of_wave(data: bytes) -> int:
    """Of the data chunk of RIFF, RIFX and RF64; RF64 keeps its length in a chunk of its own."""
    order = ">" if data[:4] == b"RIFX" else "<"
    if data[8:12] != b"WAVE":
        return 0
    position, long_size = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, position)
        position += 8
        if name == b"ds64" and position + 16 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, position + 8)
        if name == b"data":
            if size == 0xFFFFFFFF and long_size:
                return long_size - (len(data) - position)
            return 0 if _is_unknown(size) else size - (len(data) - position)
        position += size + size % 2
    return 0


def _missing_of_w64(data: bytes) -> int:
    # Chunks begin with 16 bytes of name and 8 of size, both counted in the size.
    position = 40
    while position + 24 <= len(data):
        (size,) = struct.unpack_from("<Q", data, position + 16)
        if data[position : position + 16] == b"data" + _W64_GUID:
            return size - (len(data) - position)
        position += max(24, -(-size // 8) * 8)
    return 0


def _missing_of_aiff(data: bytes) -> int:
    if data[8:12] not in (b"AIFF", b"AIFC"):
        return 0
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, position)
        position += 8
        if name == b"SSND":
            return 0 if _is_unknown(size) else size - (len(data) - position)
        position += size + size % 2
    return 0


def _missing_of_au(data: bytes) -> int:
    if len(data) < 12:
        return 0
    offset, size = struct.unpack_from(">II" if data[:1] == b"." else "<II", data, 4)
    return 0 if _is_unknown(size) else size - max(0, len(data) - offset)


def _missing_of_caf(data: bytes) -> int:
    position = 8
    while position + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, position)
        position += 12
        if name == b"data":
            return 0 if size == -1 else size - (len(data) - position)
        position += max(0, size)
    return 0


def _missing_of_nist(data: bytes) -> int:
    """Of SPHERE, whose header is text: ``sample_count -i 16000``."""
    lines = data[:4096].split(b"\n")
    fields = {}
    for line in lines[2:]:
        name, _, value = line.partition(b" -i ")
        if value[:12].strip().isdigit():
            fields[name] = int(value[:12])
    if not lines[1:] or not lines[1][:12].strip().isdigit() or b"sample_count" not in fields:
        return 0
    width = fields.get(b"sample_n_bytes", 2) * fields.get(b"channel_count", 1)
    # Compressed (shorten) files are shorter than their samples; libsndfile refuses them.
    return fields[b"sample_count"] * width - max(0, len(data) - int(lines[1][:12]))


def _missing_of_mp3(data: bytes) -> int:
    """Of the last frame of layer III; a file that ends between frames may have lost others.

    Where the first frame counts them all (Xing's header), what is decoded is compared with that.
    """
    position = 0
    if data.startswith(b"ID3") and len(data) >= 10:
        # A tag's length has seven bits in each of four bytes.
        a, b, c, d = data[6:10]
        position = 10 + (a << 21 | b << 14 | c << 7 | d)
    frames = 0
    while size := _mp3_frame(data[position : position + 3]):
        position, frames = position + size, frames + 1
    if frames < 2:  # one header alone may be anything
        return 0
    rest = data[position : position + 4]
    if rest.startswith(b"\xff") and len(rest) < 4:
        return 4 - len(rest)  # of the next header
    return max(0, position - len(data))


def _mp3_frame(header: bytes) -> int:
    """Bytes of a frame by its header (ISO 11172-3 and 13818-3); 0 of what is none."""
    if len(header) < 3 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version = header[1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    kilobits = _MP3_KILOBITS[version == 3][header[2] >> 4]
    rate = (44_100, 48_000, 32_000, 0)[header[2] >> 2 & 3]
    if version == 1 or not kilobits or not rate:
        return 0
    rate >>= {3: 0, 2: 1, 0: 2}[version]
    return (144 if version == 3 else 72) * 1000 * kilobits // rate + (header[2] >> 1 & 1)


def _missing_pages(data: bytes) -> str | None:
    """Of Ogg: every page must be whole, follow the one before, and the last must say so.

    libogg passes over pages that fail their checksum, and what is decoded is shorter.
    """
    position, numbers, ended = 0, dict[int, int](), set[int]()
    while data.startswith(b"OggS", position):
        if position + _OGG_HEADER.size > len(data):
            return "its last page is cut"
        _, _, flags, _, stream, number, checksum, count = _OGG_HEADER.unpack_from(data, position)
        body = position + _OGG_HEADER.size + count
        end = body + sum(data[body - count : body])
        if end > len(data) or body > len(data):
            return "its last page is cut"
        page = bytearray(data[position:end])
        page[22:26] = bytes(4)
        if _ogg_checksum(bytes(page)) != checksum:
            return f"its page {number:,} does not have the checksum it should have"
        if number != numbers.get(stream, number - 1) + 1:
            return f"pages before its page {number:,} are missing"
        numbers[stream] = number
        if flags & 4:
            ended.add(stream)
        position = end
    return None if ended == set(numbers) else "its end is missing"


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with the bits the other way round than zlib's, and without its inversions."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def other_format(data: bytes) -> str | None:
    """What a file is that is not read here but that ffmpeg converts, or None."""
    if data[4:8] == b"ftyp":
        return "an MP4 or M4A file"
    for start, name in (
        (b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
        (bytes.fromhex("3026B2758E66CF11"), "a WMA or WMV file"),
        (b"#!AMR", "an AMR file"),
        (b"wvpk", "a WavPack file"),
        (b"MAC ", "a Monkey's Audio file"),
        (b"ADIF", "an AAC file"),
        # MP3 begins with these bits, too, but has a layer in the next two.
        (b"\xff\xf0", "an AAC file"),
        (b"\xff\xf1", "an AAC file"),
        (b"\xff\xf8", "an AAC file"),
        (b"\xff\xf9", "an AAC file"),
        (b"FLV", "a Flash video"),
    ):
        if data.startswith(start):
            return name
    return "an AVI file" if data[:4] == b"RIFF" and data[8:12] == b"AVI " else None
