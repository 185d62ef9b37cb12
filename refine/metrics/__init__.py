"""Metrics of an embedding space; each is a value with an interval, a definition and a control."""
