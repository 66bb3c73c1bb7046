"""The whole graph, killed at random moments, ends in the same bytes.

The benchmark ``kills whole`` does it 100 times.
"""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_run_resumes_and_ends_in_the_same_bytes():
    command = [sys.executable, "-m", "vdm_pipeline_tests.benchmarks.kills", "whole", "--kills", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "0 differences" in result.stdout.splitlines()[-1]
