"""Tests, named as facts. tests.bench is a benchmark, not a test."""
