"""Generated mistakes: right implementations, changed mechanically, and whether a case sees it."""
