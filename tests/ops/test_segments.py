"""Packed documents do not influence each other: each has the same values and gradients as alone."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.ops.attention import causal_attention
from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.selective_scan import selective_scan
from lossline_jax.ops.ssd import ssd
from tests.support.ops_checks import normals, qkv_inputs, selective_inputs, ssd_inputs, value_and_gradients

# Chunks have 4 positions, and query blocks 32 of the 40. Documents end inside a chunk or at its end, span several
# chunks, have one position, or share a chunk. The second row is one document.
LENGTHS = ([5, 1, 2, 8, 2, 1, 14, 7], [40])
LENGTH = 40
SEGMENTS_BT = jnp.stack([jnp.repeat(3 * jnp.arange(len(row)), jnp.asarray(row)) for row in LENGTHS]).astype(jnp.int32)
DOCUMENTS = np.cumsum([0, *LENGTHS[0]])

CASES = {  # the op, its inputs, and the inputs with positions
    "attention": (causal_attention, qkv_inputs(2, LENGTH, 1, 2, 4), (0, 1, 2)),
    "conv": (causal_depthwise_conv, normals(0, [(2, LENGTH, 3), (4, 3), (3,)]), (0,)),
    "selective_scan": (
        functools.partial(selective_scan, chunk_size=4),
        selective_inputs(2, LENGTH, 3, 2),
        (0, 1, 3, 4),
    ),
    "ssd": (functools.partial(ssd, chunk_size=4), ssd_inputs(2, LENGTH, 1, 2, 3, 2), (0, 1, 3, 4)),
}
each_op = pytest.mark.parametrize(("op", "inputs", "along_time"), CASES.values(), ids=CASES)


def positions_of(document):
    return slice(DOCUMENTS[document], DOCUMENTS[document + 1])


@pytest.mark.slow
@each_op
def test_a_changed_document_changes_no_bit_of_the_others(op, inputs, along_time):
    (weights,) = normals(1, [inputs[0].shape])
    before = value_and_gradients(op, inputs, weights, SEGMENTS_BT)
    for document in range(len(LENGTHS[0])):
        here = positions_of(document)
        changed = list(inputs)
        for i in along_time:
            changed[i] = inputs[i].at[0, here].multiply(7.3)  # dt stays positive
        after = value_and_gradients(op, changed, weights.at[0, here].add(1), SEGMENTS_BT)
        assert not np.array_equal(before[0][0, here], after[0][0, here])
        for i in (0, *(1 + i for i in along_time)):
            other_documents = [np.delete(np.asarray(leaves[i][0]), here, axis=0) for leaves in (before, after)]
            np.testing.assert_array_equal(*other_documents)
            np.testing.assert_array_equal(before[i][1], after[i][1])


@pytest.mark.slow
@each_op
def test_each_document_is_as_if_alone(op, inputs, along_time):
    (weights,) = normals(1, [inputs[0].shape])
    packed = value_and_gradients(op, inputs, weights, SEGMENTS_BT)
    for document, length in enumerate(LENGTHS[0]):
        here = positions_of(document)

        def at_the_start(x_BT, here=here):
            return jnp.zeros_like(x_BT[:1]).at[:, : here.stop - here.start].set(x_BT[:1, here])

        alone = [at_the_start(x) if i in along_time else x for i, x in enumerate(inputs)]
        expected = value_and_gradients(op, alone, at_the_start(weights))
        for i in (0, *(1 + i for i in along_time)):
            np.testing.assert_allclose(packed[i][0, here], expected[i][0, :length], rtol=2e-6, atol=2e-6)
