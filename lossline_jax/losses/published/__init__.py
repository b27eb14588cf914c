"""Readers of loss tables that other papers published. Read `read` first; each other module holds one table's format."""
