"""Weights of other frameworks into Linen variables, by strict key tables: one file per family.

    table = conv_lstm_table(blocks=3)
    variables = from_torch({key: tensor.numpy() for key, tensor in state.items()}, table)
    logits = model.apply(jax.tree.map(jnp.asarray, variables), x, train=False)

    state = to_torch(variables, table)                          # and back, where the table can

A table has one line per Linen array: where it goes, which keys it comes from and how they are
laid out there. Every key must be used and every line satisfied, or one error names them all: a
checkpoint of another architecture whose arrays happen to have the same shapes would otherwise give
a victim that is wrong without a word.
"""
