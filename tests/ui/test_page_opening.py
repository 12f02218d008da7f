"""What happens while the page opens must not depend on the order in which its events end."""

from __future__ import annotations

from live_server import LiveServer, Visitor


def find_opening(visitor: Visitor) -> list[dict]:
    """The events of the page's opening."""
    events = visitor.read_config()["dependencies"]
    return [event for event in events if any(name == "load" for _, name in event["targets"])]


def test_one_event_at_most_waits_for_the_stream(server: LiveServer):
    opening = find_opening(Visitor(server.url))
    assert len(opening) == 2  # the network's state, the examples
    assert [event["queue"] for event in opening].count(False) == 1


def test_another_network_chosen_meanwhile_is_not_forgotten(server: LiveServer):
    """Its state is asked for while that of the first is awaited; Gradio's default would drop the second."""
    waiting = next(event for event in find_opening(Visitor(server.url)) if event["queue"] is not False)
    assert waiting["trigger_mode"] == "always_last"


def test_the_examples_come_without_the_stream(server: LiveServer):
    visitor = Visitor(server.url)
    number = next(event["id"] for event in find_opening(visitor) if event["queue"] is False)
    examples = visitor.call(number, [])[0]
    assert examples.count('class="mm-example"') == 3
    assert "data:image/" in examples
