"""The frozen JSON Schema of every version of every message ever published, and the program that guards them."""
