"""The command line: one module a verb family, read when its verb is called (spec cli.md)."""
