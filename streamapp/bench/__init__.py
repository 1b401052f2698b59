"""``streamapp bench``: six scenarios, ours and others, checked and measured in one run."""
