"""Vocabulary trimming (idT5; methods M37): fewer rows of the token table, and a tokenizer that has only these tokens.

`pieces` reads a tokenizer, `order` chooses, `rewrite` and `folder` make the tokenizer of what is left.
"""
