"""The parts of format `html`: template, style sheet, script, and the pure functions that say what stands in them."""
