module healer.dev/tests/bed/app

go 1.24
