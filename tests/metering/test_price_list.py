"""Prices that depend on what is asked: which one counts, and that no request comes out below what it may be taken for."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.operations import UsageFacts
from metering.rules.conditions import Condition, compared, conditions_json, conditions_of
from metering.rules.price_list import NO_PRICES, ListedPrice, PriceList, ambiguous
from metering.rules.rating import MeterPrice


def listed(cost, meter="IMAGES", per=1, **when):
    values = {field.replace("__", "."): each if isinstance(each, list) else [each] for field, each in when.items()}
    return ListedPrice(MeterPrice(meter, cost, per), conditions_of(values))


PICTURES = PriceList(
    [
        listed(40),
        listed(80, quality="hd"),
        listed(60, size=["1024x1792", "1792x1024"]),
        listed(120, quality="hd", size=["1024x1792", "1792x1024"]),
    ]
)


def price(body, prices=PICTURES, meter="IMAGES"):
    [found] = [each for each in prices.rates_for(body).prices if each.meter == meter]
    return found.credits_micro


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({}, 40),
        ({"quality": "standard"}, 40),
        ({"quality": None}, 40),
        ({"quality": "hd"}, 80),
        ({"quality": "hd", "size": "1024x1024"}, 80),
        ({"size": "1792x1024"}, 60),
        ({"quality": "hd", "size": "1792x1024"}, 120),
    ],
)
def test_the_price_with_most_conditions_that_all_hold_counts(body, cost):
    assert price(body) == cost


@pytest.mark.parametrize("body", [{"quality": "HD"}, {"quality": " hd "}, {"Quality": "Hd"}, {"QUALITY": "hd"}])
def test_letters_and_blanks_make_no_cheaper_price(body):
    assert price(body) == 80


@pytest.mark.parametrize("name", ["image_size", "imageSize", "image-size", "IMAGE_SIZE", "ImageSize"])
def test_a_name_is_the_same_however_its_words_are_joined(name):
    prices = PriceList([listed(1), listed(9, image_size="4k")])
    assert price({name: "4K"}, prices) == 9
    assert price({"image_size": "1K", name: "4K"}, prices) == 9
    assert price({"google": {name: "4K"}}, PriceList([listed(1), listed(9, google__imageSize="4k")])) == 9
    assert prices.names(name, "4k")


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"extra_body": {"quality": "hd"}}, 80),
        ({"quality": "standard", "extra_body": {"quality": "hd"}}, 80),
        ({"quality": "hd", "extra_body": {"quality": "standard"}}, 80),
        ({"quality": "hd", "extra_body": {"size": "1792x1024"}}, 120),
        ({"quality": "hd", "extra_body": {}}, 80),
        ({"quality": "hd", "extra_body": None}, 80),
        ({"extra_body": "hd"}, 120),
        ({"extra_body": {"google": {"x": 1}}}, 40),
    ],
)
def test_what_a_gateway_behind_takes_out_of_a_wrapper_counts_too(body, cost):
    assert price(body) == cost


def test_two_forms_of_a_request_that_contradict_each_other_cost_the_dearer():
    prices = PriceList([listed(1), listed(9, reasoning_effort="high"), listed(5, verbosity="high")])

    def of(body, otherwise):
        return prices.rates_for(body, otherwise).prices[0].credits_micro

    assert of({}, {"reasoning_effort": "high"}) == 9
    assert of({"reasoning_effort": "low"}, {"reasoning_effort": "high"}) == 9
    assert of({"reasoning_effort": None}, {"reasoning_effort": "high"}) == 9
    assert of({"reasoning_effort": "high"}, {"reasoning_effort": "low"}) == 9
    assert of({"verbosity": "high"}, {"verbosity": "HIGH"}) == 5
    assert of({"reasoning_effort": "low"}, {"reasoning_effort": "low"}) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"quality": "auto", "size": "1792x1024"},
        {"quality": "Automatic", "size": "1792x1024"},
        {"quality": "", "size": "1792x1024"},
        {"quality": ["hd"], "size": "1792x1024"},
        {"quality": {"level": "hd"}, "size": "1792x1024"},
        {"quality": "hd", "size": "auto"},
        {"quality": "auto", "size": "auto"},
        {"quality": "standard", "Quality": "hd", "size": "1792x1024"},
        {"quality": "x" * 65, "size": "1792x1024"},
        {"quality": 10**400, "size": "1792x1024"},
    ],
)
def test_a_value_that_may_come_to_any_costs_the_dearest_that_it_may_come_to(body):
    assert price(body) == 120


def test_a_choice_of_the_provider_costs_no_more_than_what_it_may_choose():
    assert price({"quality": "auto"}) == 80  # without a size that makes it dearer
    assert price({"quality": "auto", "size": "1024x1024"}) == 80
    cheaper = PriceList([listed(40), listed(80, quality="hd"), listed(50, quality="hd", size="small")])
    assert price({"quality": "auto", "size": "small"}, cheaper) == 50  # hd never costs 80 at this size


def test_a_price_may_name_the_providers_own_choice():
    prices = PriceList([listed(40), listed(80, quality="hd"), listed(45, quality="auto")])
    assert price({"quality": "auto"}, prices) == 45
    assert price({"quality": "AUTO"}, prices) == 45
    assert price({"quality": "automatic"}, prices) == 80


def test_a_choice_that_another_meters_price_names_is_none_of_this_meters():
    prices = PriceList(
        [listed(40), listed(80, quality="hd"), listed(1, "REQUESTS"), listed(2, "REQUESTS", quality="auto")]
    )
    assert price({"quality": "auto"}, prices) == 80
    assert price({"quality": "auto"}, prices, "REQUESTS") == 2


def test_of_as_many_conditions_the_dearest_of_a_unit_counts():
    prices = PriceList([listed(1), listed(30, quality="hd"), listed(50, per=2, size="big")])
    assert price({"quality": "hd", "size": "big"}, prices) == 30


def test_numbers_and_booleans_are_compared_as_texts_too():
    prices = PriceList([listed(1), listed(5, seconds=["10", "2.5"]), listed(7, sound="true")])
    for value in (10, "10", 10.0, "10.0", "2.50", 2.5):
        assert price({"seconds": value}, prices) == 5
    assert price({"sound": True}, prices) == price({"sound": "True"}, prices) == 7
    assert price({"seconds": 100, "sound": False}, prices) == 1


@pytest.mark.parametrize("value", ["yes", "on", 1, "1", "t"])
def test_what_is_neither_true_nor_false_may_be_either(value):
    assert price({"sound": value}, PriceList([listed(1), listed(7, sound="true")])) == 7
    assert price({"sound": value}, PriceList([listed(1), listed(7, sound=["true", "stereo"])])) == 1


@pytest.mark.parametrize("value", ["1_080", "+1080", "1.08e3", "1080p", True])
def test_what_is_no_number_may_be_any(value):
    assert price({"height": value}, PriceList([listed(1), listed(7, height=["1080", "2160"])])) == 7
    assert price({"height": value}, PriceList([listed(1), listed(7, height=["1080", "4k"])])) == 1
    assert price({"height": 720}, PriceList([listed(1), listed(7, height=["1080", "2160"])])) == 1


def test_a_price_list_says_which_values_its_prices_name():
    assert PICTURES.names("quality", "HD")
    assert not PICTURES.names("quality", "standard")
    assert not PICTURES.names("quality", {"level": "hd"})
    assert not PICTURES.names("sound", True)


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"output": {"resolution": "4K"}}, 9),
        ({"output": {"resolution": "720p"}}, 1),
        ({"output": {}}, 1),
        ({"output": None}, 1),
        ({"output": "4k"}, 9),
        ({"output": [{"resolution": "720p"}]}, 9),
        ({"output.resolution": "4k"}, 1),
    ],
)
def test_a_nested_field_is_named_with_dots(body, cost):
    assert price(body, PriceList([listed(1), listed(9, output__resolution="4k")])) == cost


def test_meters_without_conditions_keep_their_price_beside_those_with():
    prices = PriceList([listed(3, "REQUESTS"), listed(1, "SECONDS"), listed(5, "SECONDS", resolution="1080p")])
    usage = UsageFacts(requests=1, seconds=4)
    assert prices.rates_for({}).cost_micro(usage) == 7
    assert prices.rates_for({"resolution": "1080p"}).cost_micro(usage) == 23


def test_an_object_of_a_request_is_read_once_however_many_fields_prices_name():
    class Counted(dict):
        times = 0

        def items(self):
            self.times += 1
            return super().items()

    prices = PriceList([listed(1), *(listed(2, **{f"output__field{number}": "x"}) for number in range(64))])
    body = Counted({"output": Counted({"field7": "x"})})
    assert price(body, prices) == 2
    assert (body.times, body["output"].times) == (1, 1)


def test_prices_are_weighed_once_for_all_requests_that_have_the_same():
    assert PICTURES.rates_for({"quality": "hd"}) is PICTURES.rates_for({"quality": "HD", "n": 2})
    plain = PriceList([listed(3)])
    assert plain.rates_for({"quality": "hd"}) is plain.ordinary
    assert not plain.is_conditional
    assert NO_PRICES.rates_for({}).cost_micro(UsageFacts(images=5)) == 0


def test_conditions_are_kept_as_json_and_read_again():
    when = conditions_of({"size": ["b", "a", "a"], "quality": ["hd"]})
    assert when == (Condition("quality", ("hd",)), Condition("size", ("a", "b")))
    assert conditions_of(conditions_json(when)) == when


@given(st.one_of(st.text(max_size=70), st.integers(), st.floats(allow_nan=False), st.booleans()))
def test_what_is_compared_is_compared_again_to_the_same(value):
    text = compared(value)
    assert text is None or compared(text) == text


def test_ties_that_only_the_dearer_price_decides_are_found():
    hd, big, both = listed(8, quality="hd"), listed(6, size="big"), listed(12, quality="hd", size="big")
    assert ambiguous([listed(4), hd, big]) == [(1, 2)]
    assert ambiguous([listed(4), hd, big, both]) == []
    assert ambiguous([listed(4), hd, listed(6, quality="low")]) == []  # one field cannot say both
    assert ambiguous([listed(4), hd, listed(8, size="big")]) == []  # one price either way
    assert ambiguous([listed(4), listed(8, quality=["hd", "high"]), listed(6, quality=["high", "low"])]) == [(1, 2)]


FIELDS = ("quality", "size", "sound")
VALUES = ("a", "b", "c")
conditions = st.dictionaries(st.sampled_from(FIELDS), st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
prices_of_a_meter = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 3), conditions.filter(bool)), max_size=6, unique_by=lambda each: str(each[2])
)  # fmt: skip
requests = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(FIELDS, st.sampled_from([*VALUES, "other", "A", "auto", ["a"]]))
)


def of_a_definite_request(rows, body):
    """What the words of the catalog's reference say, where every field of the request says one thing."""
    held = [row for row in rows if all(body.get(field) in values for field, values in row[2].items())]
    most = max(len(row[2]) for row in held)
    return max(Fraction(row[0], row[1]) for row in held if len(row[2]) == most)


@given(st.tuples(st.integers(0, 50), st.integers(1, 3)), prices_of_a_meter, requests)
def test_no_request_is_cheaper_than_anything_it_may_come_to_and_none_that_is_definite_is_dearer(ordinary, more, body):
    rows = [(*ordinary, {}), *more]
    prices = PriceList(ListedPrice(MeterPrice("IMAGES", row[0], row[1]), conditions_of(row[2])) for row in rows)
    [found] = prices.rates_for(body).prices
    open_fields = [field for field, value in body.items() if value == "auto" or isinstance(value, list)]
    definite = {field: value.lower() for field, value in body.items() if field not in open_fields}
    may_be = [
        of_a_definite_request(rows, definite | dict(zip(open_fields, values, strict=True)))
        for values in product([*VALUES, "other"], repeat=len(open_fields))
    ]
    assert Fraction(found.credits_micro, found.per) >= max(may_be)
    assert open_fields or Fraction(found.credits_micro, found.per) == may_be[0]


@given(prices_of_a_meter, requests, st.integers(0, 20), st.integers(0, 100))
def test_what_a_request_is_held_for_covers_what_it_is_charged(more, body, images, discount):
    prices = PriceList([listed(7), *(listed(each[0], per=each[1], **each[2]) for each in more)])
    bound, used = UsageFacts(images=images + 2), UsageFacts(images=images)
    assert prices.rates_for(body).cost_micro(used, discount) <= prices.rates_for(dict(body)).highest_micro(
        bound, discount
    )
