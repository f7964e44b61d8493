module healer.dev/tests/bed/pause

go 1.24
