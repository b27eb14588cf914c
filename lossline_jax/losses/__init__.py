"""The losses table: its columns, its files, and losses that other studies published. Read `loss_row` first."""
