"""Event files of TensorBoard, read as it reads them."""

from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def events(folder: Path) -> list[Event]:
    """Of all files, in the order in which TensorBoard reads them."""
    found = []
    for path in sorted(folder.glob("tensorboard/events*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            # Length, its checksum, the event, its checksum.
            length = int.from_bytes(data[place : place + 8], "little")
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, without those that a later start says are purged."""
    kept: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            kept = {
                tag: [each for each in values if each[0] < event.step]
                for tag, values in kept.items()
            }
        for value in event.summary.value:
            kept.setdefault(value.tag, []).append((event.step, value.simple_value))
    return kept
