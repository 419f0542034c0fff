"""metrics.jsonl and timing.jsonl: kills and resumes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.workdir import metric_writer


def _lines(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def _run(folder: pathlib.Path, first: int = 0, last: int = 6) -> None:
  """Two records a step, as of training and of validation; seven steps in all."""
  with metric_writer.MetricWriter(folder) as writer:
    writer.rewind(first - 1)
    for step in range(first, last + 1):
      writer.write(step, {"train/loss": jnp.float32(1) / (step + 3)})
      writer.write(
        step,
        {"validation/loss": np.float32(0.1) * step, "epoch": step},
        {"seconds": 0.25 * step},
      )


def test_a_record_is_a_line_with_its_step_first_and_its_names_sorted(tmp_path):
  with metric_writer.MetricWriter(tmp_path / "new" / "folder") as writer:
    writer.write(
      np.int64(3),
      {"loss": 0.5, "accuracy": np.float32(0.1), "examples": jnp.int32(7)},
      {"seconds": 1.5},
    )
  # 0.1 in float32 is this double exactly: nothing is rounded on the way.
  assert (tmp_path / "new/folder/metrics.jsonl").read_bytes() == (
    b'{"step": 3, "accuracy": 0.10000000149011612, "examples": 7, "loss": 0.5}\n'
  )
  assert (tmp_path / "new/folder/timing.jsonl").read_bytes() == (
    b'{"step": 3, "seconds": 1.5}\n'
  )


@pytest.mark.parametrize(
  ("value", "expected"),
  [(np.nan, "NaN"), (jnp.inf, "Infinity"), (np.float32(-np.inf), "-Infinity")],
)
def test_a_non_finite_value_is_valid_json_and_reads_back(tmp_path, value, expected):
  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  metric_writer.MetricWriter(tmp_path).write(0, {"loss": value})
  text = (tmp_path / "metrics.jsonl").read_text()
  loss = json.loads(text, parse_constant=refuse)["loss"]
  assert loss == expected
  np.testing.assert_equal(float(loss), float(value))


def test_bfloat16_is_a_number(tmp_path):
  metric_writer.MetricWriter(tmp_path).write(0, {"loss": jnp.bfloat16(0.5)})
  assert _lines(tmp_path / "metrics.jsonl") == [{"step": 0, "loss": 0.5}]


@pytest.mark.parametrize(
  ("step", "metrics", "error", "message"),
  [
    (0, {"loss": "low"}, TypeError, "loss: expected a number, got 'low'"),
    (0, {"loss": None}, TypeError, "loss: expected a number"),
    (0, {"loss": 1j}, TypeError, "loss: expected a number"),
    (0, {"loss": np.zeros(2)}, ValueError, r"loss: expected one number.*\(2,\)"),
    (0, {"step": 1}, ValueError, "'step' is taken"),
    (-1, {"loss": 1}, ValueError, "at least 0, got -1"),
    (0.5, {"loss": 1}, TypeError, "integer"),
  ],
)
def test_a_bad_record_is_refused_and_leaves_no_trace(
  tmp_path, step, metrics, error, message
):
  writer = metric_writer.MetricWriter(tmp_path)
  with pytest.raises(error, match=message):
    writer.write(step, metrics)
  assert not (tmp_path / "metrics.jsonl").exists()


def test_a_step_back_is_refused_until_rewound(tmp_path):
  _run(tmp_path)
  writer = metric_writer.MetricWriter(tmp_path)
  with pytest.raises(ValueError, match=r"step 4 is before.*rewind\(4\)"):
    writer.write(4, {"loss": 1.0})
  writer.rewind(3)
  writer.write(4, {"loss": 1.0})
  with pytest.raises(ValueError, match="step 3 is before"):
    writer.write(3, {"loss": 1.0})
  assert [record["step"] for record in _lines(tmp_path / "metrics.jsonl")] == (
    [0, 0, 1, 1, 2, 2, 3, 3, 4]
  )
  assert [record["step"] for record in _lines(tmp_path / "timing.jsonl")] == (
    [0, 1, 2, 3]
  )


def test_rewind_to_minus_one_empties_and_a_late_step_changes_nothing(tmp_path):
  _run(tmp_path)
  before = (tmp_path / "metrics.jsonl").read_bytes()
  writer = metric_writer.MetricWriter(tmp_path)
  writer.rewind(100)
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  writer.rewind(-1)
  assert (tmp_path / "metrics.jsonl").read_bytes() == b""
  writer.write(0, {"loss": 1.0})


def test_a_cut_at_every_byte_is_repaired_and_resumes_to_the_same_file(
  tmp_path, monkeypatch
):
  # Thousands of writes need not reach the disk.
  monkeypatch.setattr(os, "fsync", lambda number: None)
  _run(tmp_path / "whole", last=3)
  whole = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
  cut_folder = tmp_path / "cut"
  cut_folder.mkdir()
  for length in range(len(whole)):
    (cut_folder / "metrics.jsonl").write_bytes(whole[:length])
    metric_writer.MetricWriter(cut_folder)
    repaired = (cut_folder / "metrics.jsonl").read_bytes()
    assert whole.startswith(repaired)
    assert repaired == b"" or repaired.endswith(b"\n")
    # Only a line that had begun may be lost.
    assert len(repaired) >= whole[:length].rfind(b"\n") + 1
    # The checkpoint in use is of a step whose two records are whole.
    steps = [record["step"] for record in _lines(cut_folder / "metrics.jsonl")]
    checkpoint = len(steps) // 2 - 1
    _run(cut_folder, first=checkpoint + 1, last=3)
    assert (cut_folder / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
  "tail", [b"\0" * 20, b"\xff\xfe", b"[1]\n", b'{"step": "x"}\n']
)
def test_a_last_line_of_rubbish_is_removed(tmp_path, tail):
  _run(tmp_path)
  path = tmp_path / "metrics.jsonl"
  whole = path.read_bytes()
  path.write_bytes(whole + tail)
  metric_writer.MetricWriter(tmp_path)
  assert path.read_bytes() == whole


def test_records_read_back_as_numbers_even_while_a_line_is_being_written(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path)
  written = [
    {"step": 0, "loss": 0.1, "epoch": 1},
    {"step": 9, "loss": float("inf")},
    {"step": 9, "loss": float("nan")},
  ]
  for record in written:
    writer.write(record["step"], {k: v for k, v in record.items() if k != "step"})
  with (tmp_path / "metrics.jsonl").open("ab") as file:
    file.write(b'{"step": 10, "lo')
  records = metric_writer.read_records(tmp_path / "metrics.jsonl")
  np.testing.assert_equal(records, written)
  with pytest.raises(FileNotFoundError):
    metric_writer.read_records(tmp_path / "none.jsonl")


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path):
  _run(tmp_path)
  path = tmp_path / "metrics.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  lines[4] = b"{oops\n"
  path.write_bytes(b"".join(lines))
  with pytest.raises(ValueError, match=r"metrics\.jsonl, line 5: .*oops"):
    metric_writer.MetricWriter(tmp_path)
  with pytest.raises(ValueError, match="line 5"):
    metric_writer.read_records(path)
  assert path.read_bytes() == b"".join(lines)


def test_a_killed_process_resumes_to_the_file_of_an_uninterrupted_one(tmp_path):
  _run(tmp_path / "whole")
  killed = tmp_path / "killed"
  # The kill strikes in the write of the second record of step 4: half of it lands.
  script = textwrap.dedent(f"""
    import os, signal
    from emosynth_jax.workdir import metric_writer
    writer = metric_writer.MetricWriter({str(killed)!r})
    for step in range(5):
      writer.write(step, {{"train/loss": 1 / (step + 3)}})
      if step == 4:
        with open({str(killed / "metrics.jsonl")!r}, "ab") as file:
          file.write(b'{{"step": 4, "epo')
          file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
      writer.write(step, {{"validation/loss": 0.1 * step, "epoch": step}})
  """)
  process = subprocess.run([sys.executable, "-c", script], check=False)
  assert process.returncode == -signal.SIGKILL
  assert _lines_before_tail(killed / "metrics.jsonl") == 9
  _run(killed, first=0)
  assert (killed / "metrics.jsonl").read_bytes() == (
    tmp_path / "whole" / "metrics.jsonl"
  ).read_bytes()


def _lines_before_tail(path: pathlib.Path) -> int:
  return path.read_bytes().count(b"\n")


def test_a_rewind_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
  _run(tmp_path)
  before = (tmp_path / "metrics.jsonl").read_bytes()
  writer = metric_writer.MetricWriter(tmp_path)

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    writer.rewind(2)
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "timing.jsonl"]


@pytest.mark.parametrize(
  ("line", "reason"),
  [
    ('{"step": 2, "epoch": 2, "loss": "OaN"}', "loss: expected a number, got 'OaN'"),
    ('{"step": 2, "epoch": 2, "loss": [1]}', r"loss: expected a number, got \[1\]"),
    ('{"step": 2, "epoch": 2, "loss": null}', "loss: expected a number, got None"),
    ('{"step": 2, "epnch": 2}', "epoch: expected more than 1, got None"),
    ('{"step": 2, "epoch": 1}', "epoch: expected more than 1, got 1"),
    ('{"step": 2, "epoch": 2.5}', r"epoch: expected more than 1, got 2\.5"),
    ("[" * 100_000, "expected a JSON object"),
  ],
)
def test_a_damaged_record_is_named_by_its_line(tmp_path, line, reason):
  path = tmp_path / "metrics.jsonl"
  lines = ['{"step": 1, "epoch": 1}', line, '{"step": 3, "epoch": 3}']
  path.write_text("".join(f"{each}\n" for each in lines))
  with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2.*{reason}"):
    metric_writer.read_epochs(path)


def test_epochs_without_a_record_are_listed(tmp_path):
  def missing(epochs, number=None):
    return metric_writer.missing_epochs([{"epoch": e} for e in epochs], number)

  assert missing([1, 2, 3]) == missing([1, 2, 3], 3) == missing([]) == ""
  assert missing([1, 2, 3], 4) == "4"
  assert missing([2, 6]) == "1, 3 to 5"
  assert missing([], 7) == "1 to 7"
  assert metric_writer.read_epochs(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(("step", "kept"), [(3, [2]), (4, [2, 4]), (5, [2, 4])])
def test_the_record_of_the_step_itself_is_kept(tmp_path, step, kept):
  with metric_writer.MetricWriter(tmp_path) as writer:
    for each in (2, 4, 6):
      writer.write(each, {"loss": 1.0})
    writer.rewind(step)
  records = metric_writer.read_records(tmp_path / "metrics.jsonl")
  assert [record["step"] for record in records] == kept


def test_records_are_compared_with_what_a_checkpoint_knows(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.check(num_epochs=0)
    writer.write(2, {"loss": 1.0})
    digest = writer.digest()
    writer.write(4, {"loss": 0.5})
    writer.rewind(2)
    writer.check(num_epochs=1, digest=digest)
    writer.check(num_epochs=1)
    for number in (0, 2):
      with pytest.raises(ValueError, match=rf"of 1 epochs, the last .* of {number}:"):
        writer.check(num_epochs=number, digest=digest)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace("1.0", "1.5"))
    with pytest.raises(ValueError, match="is not as it was at the last checkpoint"):
      writer.check(num_epochs=1, digest=digest)
