"""The world: values, entities, events, effects and views. No rules."""
