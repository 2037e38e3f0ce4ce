"""The state of a method with several optimisers: all that training needs to go on exactly."""


class Resumable:
    """For methods with a `network`, a module that holds all that is trained, and `optimisers` by name."""

    def state_dict(self):
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"network": self.network.state_dict(), "optimisers": optimisers}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
