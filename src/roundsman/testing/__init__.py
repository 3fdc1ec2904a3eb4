"""Clocks, factories, doubles and conformance suites: for our own drivers and for others'."""
