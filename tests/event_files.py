"""Reads TensorBoard's event files, without TensorBoard."""

import importlib.util
import struct

import pytest

needs_tensorboardx = pytest.mark.skipif(
  importlib.util.find_spec("tensorboardX") is None,
  reason="tensorboardX is missing: pip install -e '.[test]'",
)


def events_of(workdir):
  """The events of a workdir, in TensorBoard's order; its records are of TFRecord."""
  from tensorboardX.proto import event_pb2

  for path in sorted(workdir.glob("events.out.tfevents.*")):
    content = path.read_bytes()
    while content:
      # A length of 8 bytes, its checksum of 4, the event, its checksum of 4.
      (length,) = struct.unpack("<Q", content[:8])
      yield event_pb2.Event.FromString(content[12 : 12 + length])
      content = content[12 + length + 4 :]


def curves_of(workdir):
  """What TensorBoard shows: a new session hides the steps from its own on."""
  from tensorboardX.proto import event_pb2

  found: dict[str, list[tuple[int, float]]] = {}
  for event in events_of(workdir):
    if event.session_log.status == event_pb2.SessionLog.START:
      found = {
        name: [point for point in points if point[0] < event.step]
        for name, points in found.items()
      }
    for value in event.summary.value:
      found.setdefault(value.tag, []).append((event.step, value.simple_value))
  return found
