"""One device's way to one generation: the table, the download, the trial, and the updater that walks them."""
