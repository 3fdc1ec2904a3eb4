"""For tests, ours and others': clocks, factories, and the conformance suites of the interfaces."""
