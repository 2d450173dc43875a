"""What a person does to instances: which of them, and what came of it."""
