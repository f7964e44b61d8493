module healer.dev/tests/bed/limited

go 1.24
