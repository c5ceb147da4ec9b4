"""Which pod holds which model: pure functions from a PlanInput to a Plan, with a reason for every no."""
