"""Privacy: one file, one analyzer."""
