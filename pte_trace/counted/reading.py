"""What the kernel's tables hold, as columns: identities copied, numbers where they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pte_trace.counted.arrays import Array, Numbers, blocks, group, np, row_sums
from pte_trace.counted.columns import ROW, Columns, Times
from pte_trace.counted.counters import FAMILIES, SIZE, WRITE_FAULTS, WRITE_FAULTS_ORIGIN
from pte_trace.counted.packed import (
    ANON_NAME,
    CGROUP_NAME,
    KINDS,
    LAYOUT,
    Packed,
    ReadFile,
    file_key,
    file_name,
    name_of,
    path_of,
)

_OTHER = KINDS.index("other")
_PERMS = 0b1111
_TYPES = {
    "uint64_t": np.uint64,
    "uint32_t": np.uint32,
    "uint8_t": np.uint8,
    "__u64": np.uint64,
    "__u32": np.uint32,
    "__u8": np.uint8,
}


def _type_of(kind: Any) -> Any:
    """numpy's of one of cffi's."""
    if kind.kind == "struct":
        return np.dtype(
            {
                "names": [name for name, _ in kind.fields],
                "formats": [_type_of(field.type) for _, field in kind.fields],
                "offsets": [field.offset for _, field in kind.fields],
                "itemsize": LAYOUT.ffi.sizeof(kind),
            }
        )
    if kind.kind == "array":
        if kind.item.cname == "char":
            return np.dtype(f"S{kind.length}")
        return np.dtype((_type_of(kind.item), (kind.length,)))
    return np.dtype(_TYPES[kind.cname])


RECORD = _type_of(LAYOUT.ffi.typeof("struct vma_record"))
TIMING = _type_of(LAYOUT.ffi.typeof("struct timing"))
_COUNTERS = np.dtype((np.int64, (SIZE,)))
# All counters of a record side by side, in the order of FAMILIES.
_COUNTED = np.dtype(
    {
        "names": ["numbers"],
        "formats": [_COUNTERS],
        "offsets": [RECORD.fields["counted"][1]],
        "itemsize": RECORD.itemsize,
    }
)
assert tuple(RECORD["counted"].names) == tuple(family.name for family in FAMILIES)
assert RECORD["counted"].itemsize == _COUNTERS.itemsize


def unpacked(packed: Packed, read_file: ReadFile, *, cgroups: bool = True) -> Columns:
    """The records that count anything. Their numbers may be the kernel's own memory still.

    Without *cgroups* that of a process is not known.
    """
    parts = [
        np.frombuffer(part, RECORD) for part in (packed.vmas, packed.remainders, packed.nobodys)
    ]
    records = parts[0] if not any(map(len, parts[1:])) else np.concatenate(parts)
    numbers = records.view(_COUNTED)["numbers"]
    counting = np.flatnonzero(numbers.any(axis=1))
    if len(counting) < len(records):
        records, numbers = records[counting], numbers[counting]
    if not len(records):
        return Columns.none()
    if not numbers.flags.writeable:
        numbers = numbers.copy()
    for block in blocks(len(numbers)):
        _tell_the_rest(numbers[block])
    rows, texts = _identities(records, read_file, cgroups=cgroups)
    row_of = np.full(sum(map(len, parts)), -1)
    row_of[counting] = np.arange(len(counting))
    return Columns(rows, numbers, _times(packed, row_of, len(parts[0])), texts)


def _tell_the_rest(numbers: Numbers) -> None:
    """The programs count who wrote where that was not, as it nearly always is, the program."""
    user, *others = (WRITE_FAULTS_ORIGIN.at(name) for name in WRITE_FAULTS_ORIGIN.names)
    faults = row_sums(numbers[:, WRITE_FAULTS.place])
    numbers[:, user] = faults - row_sums(numbers[:, others])


def _identities(
    records: Array, read_file: ReadFile, *, cgroups: bool
) -> tuple[Array, tuple[str, ...]]:
    rows = np.zeros(len(records), ROW)
    for block in blocks(len(records)):
        _identify(rows[block], records[block])
    texts: dict[str, int] = {}
    _name_processes(rows, records["comm"], texts)
    ids = records["cgroup"] if cgroups else np.zeros(len(records), np.uint64)
    _name_cgroups(rows, ids, read_file, texts)
    _name_mappings(rows, records, read_file, texts)
    return rows, tuple(texts)


def _identify(rows: Array, records: Array) -> None:
    """All but names."""
    vma = records["vma"]
    attributed = vma["end"] != 0
    for name, values in {
        "pid": vma["tgid"],
        **{name: vma[name] for name in ("image", "start", "end", "inode", "dev")},
        **{name: records[name] for name in ("ppid", "uid", "born_ns")},
        "seen_ns": records["first_seen_ns"],
        "named_ns": records["first_seen_ns"],
        "changed_ns": records["last_change_ns"],
        "kind": np.where(attributed, records["kind"], _OTHER),
        "perms": np.where(attributed, records["vm_flags"] & _PERMS, 0),
    }.items():
        rows[name] = values


def _name_processes(rows: Array, comms: Array, texts: dict[str, int]) -> None:
    words = np.ascontiguousarray(comms).view(np.uint64).reshape(len(comms), -1)
    groups = group(*words.T)
    # Up to Linux 5.16 something may stand behind a name's end (06c5088aeed5).
    named = (_text(comm.split(b"\0")[0]) for comm in comms[groups.firsts].tolist())
    rows["comm"] = _places(named, texts)[groups.of]


def _name_cgroups(rows: Array, ids: Array, read_file: ReadFile, texts: dict[str, int]) -> None:
    """No name at all where it is not known."""
    groups = group(ids)
    packed = (
        read_file(file_key(number, CGROUP_NAME, 0)) if number else None
        for number in ids[groups.firsts].tolist()
    )
    rows["cgroup"] = _places(("" if each is None else path_of(each) for each in packed), texts)[
        groups.of
    ]


def _name_mappings(rows: Array, records: Array, read_file: ReadFile, texts: dict[str, int]) -> None:
    """Each name is looked up once, of however many records it is."""
    attributed = rows["end"] != 0
    # A file may have the inode 0.
    in_file = attributed & ((rows["inode"] != 0) | (rows["dev"] != 0))
    named = attributed & ~in_file & (records["anon_name"] != 0)
    inode = np.where(in_file, rows["inode"], np.where(named, records["anon_name"], 0))
    dev = np.where(in_file, rows["dev"], np.where(named, ANON_NAME, 0))
    path = np.where(in_file, records["path"], 0)
    groups = group(inode, dev, path, rows["kind"], attributed)
    firsts = groups.firsts
    names = (
        _name(KINDS[kind], given, (number, device, which), read_file)
        for kind, given, number, device, which in zip(
            *(each[firsts].tolist() for each in (rows["kind"], attributed, inode, dev, path)),
            strict=True,
        )
    )
    rows["name"] = _places(names, texts)[groups.of]


def _places(names: Iterable[str], texts: dict[str, int]) -> Numbers:
    return np.array([texts.setdefault(name, len(texts)) for name in names], np.int64)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _name(kind: str, attributed: bool, key: tuple[int, int, int], read_file: ReadFile) -> str:
    """A path, or a name in brackets for what has none, as in /proc/PID/maps."""
    inode, dev, path = key
    if not attributed:
        return "[not attributed]"
    if not (inode or dev):
        return f"[{kind}]"
    if dev != ANON_NAME:
        return file_name(inode, dev, path, read_file)
    packed = read_file(file_key(*key))
    return "[anon:?]" if packed is None else f"[anon:{name_of(packed)}]"


def _times(packed: Packed, row_of: Numbers, vmas: int) -> Times:
    timings = np.frombuffer(packed.timings, TIMING)
    place = timings["record"].astype(np.int64)
    among = np.where(
        place >= packed.first_remainder,
        place - packed.first_remainder + vmas,
        np.where(place == packed.nobodys_place, len(row_of) - 1, place - packed.first_vma),
    )
    rows = row_of[np.clip(among, 0, len(row_of) - 1)]
    known = (among >= 0) & (among < len(row_of)) & (rows >= 0) & timings["log2"].any(axis=1)
    if not known.all():
        rows, timings = rows[known], timings[known]
    # As signed numbers: those together with unsigned ones would become floating ones.
    ns = timings["ns"].view(np.int64)
    return Times(rows, timings["outcome"], ns, timings["log2"])
