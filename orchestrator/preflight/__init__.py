"""Before a deploy: do the definitions and contracts of this checkout fit what is stored? Sends nothing, ever."""
