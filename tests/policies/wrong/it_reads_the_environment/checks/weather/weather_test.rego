package exchange.checks.weather_test

import data.exchange.checks.weather

test_the_weather_is_looked_at if {
	count(weather.deny) >= 0 with input as {"client": {"id": "cli_1", "roles": ["storm"]}, "action": "publish"}
}
