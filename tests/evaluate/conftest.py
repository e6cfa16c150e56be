"""The marker of tests that take more than 15 seconds."""


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than 15 seconds")
