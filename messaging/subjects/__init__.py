"""The keys of the persons that messages are about, in a database of their own: made, opened, wrapped anew, erased."""
