from tests.support.identity_fixtures import server, start  # noqa: F401  # fixtures
