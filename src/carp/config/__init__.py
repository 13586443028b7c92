"""What people write: carp.toml and the one-line form, read into one checked model. It imports the protocol's values only."""
