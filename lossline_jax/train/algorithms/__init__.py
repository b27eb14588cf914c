"""Training algorithms: what one step does with a global batch. Read `algorithm.Algorithm` first."""
