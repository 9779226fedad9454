from stages.keras.tensorflow import import_tfmot
from stages.load.notes import notes_on


def test_frozen_layers_wrappers_and_what_was_split_off_are_told_one_sentence_each(keras2):
    layers = keras2.layers
    model = keras2.Sequential([keras2.Input((4,)), layers.Dense(3, name="cold"), layers.Dense(2)])
    assert notes_on(model, ()) == ()
    linear = import_tfmot().clustering.keras.CentroidInitialization.LINEAR
    wrap = import_tfmot().clustering.keras.cluster_weights
    wrapped = wrap(model, number_of_clusters=2, cluster_centroids_init=linear)
    wrapped.layers[0].trainable = False
    frozen, clustered, front = notes_on(wrapped, [{"layer": "scale", "class": "Rescaling"}])
    assert frozen == "1 layer is not trainable: cluster_cold"
    assert clustered.startswith("2 layers carry tfmot's clustering wrapper: `finetune` goes on with it")
    assert front.startswith("scale (Rescaling) was split off the front")
