"""Generated mistakes: right implementations with one change, and whether a case sees it."""
