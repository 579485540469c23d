"""Toybox: the small procedural world that mini is trained and judged on."""
