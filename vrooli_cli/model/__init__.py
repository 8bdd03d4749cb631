"""Frozen values and the protocols that every floor may name; nothing here does anything."""
