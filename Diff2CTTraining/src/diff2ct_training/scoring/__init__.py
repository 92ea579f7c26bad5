"""How good reconstructions are, beyond the voxelwise figures of `diff2ct.metrics`: one file per question."""
