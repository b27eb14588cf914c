"""Tasks as items of text and of tokens. Read `item` first; `multiple_choice` and `cloze` make items."""
