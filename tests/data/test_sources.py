from stages.data.sources import load_source


def test_confident_solar_cells_are_those_with_probability_0_or_1(data):
    source = load_source(data)
    assert source.classes == ["functional", "defective"]
    assert source.samples["label"].value_counts().to_dict() == {0: 1508, 1: 715}
    with source.images.open(0, 100) as image:
        assert image.size == (300, 300)


def test_all_solar_cells_follow_the_published_protocol(data):
    source = load_source(data.model_copy(update={"labels": "all"}))
    assert source.samples["label"].value_counts().to_dict() == {0: 1508 + 295, 1: 715 + 106}


def test_fake_data_is_a_thousand_images_in_ten_classes(data):
    source = load_source(data.model_copy(update={"source": "fake", "image_size": 40}))
    assert len(source.samples) == 1000
    assert len(source.classes) == 10
    with source.images.open(999, 100) as image, source.images.open(999, 100) as again:
        assert image.size == (40, 40)
        assert image.tobytes() == again.tobytes()


def test_another_threshold_calls_other_cells_defective(data):
    source = load_source(data.model_copy(update={"labels": "all", "threshold": 0.3}))
    assert source.samples["label"].value_counts().to_dict() == {0: 1508, 1: 715 + 106 + 295}


def test_color_is_the_sources_own_unless_it_is_said(data):
    channels = {
        color: load_source(data.model_copy(update={"color": color})).channels for color in ("auto", "gray", "rgb")
    }
    assert channels == {"auto": 1, "gray": 1, "rgb": 3}
