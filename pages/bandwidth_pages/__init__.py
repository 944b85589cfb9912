"""Makes the documentation site from the pages of this repository, checks its links, and looks at it in a browser."""
