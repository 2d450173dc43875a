"""The beginning of a project: a participant of a team's own, complete, to be changed."""
