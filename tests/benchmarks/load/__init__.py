"""The programs that make load, each a process of its own, run by `tests.benchmarks.generator`.

They share the machine with what they measure, so they do little: requests are built before the clock starts, and answers are
counted by a marker that stands once in each event, not parsed.
"""
