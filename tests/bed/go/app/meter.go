package main

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

var bounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// meter counts the requests of "/" in the text format Prometheus reads.
type meter struct {
	begin time.Time

	mu       sync.Mutex
	inflight int
	codes    map[int]uint64
	buckets  []uint64
	count    uint64
	sum      float64
}

func newMeter() *meter {
	// Both codes are there from the start, so that a rate over them is a number at once.
	return &meter{begin: time.Now(), codes: map[int]uint64{200: 0, 500: 0}, buckets: make([]uint64, len(bounds))}
}

// enter counts a request in; the function it returns counts it out.
func (m *meter) enter() func(code int, took time.Duration) {
	m.mu.Lock()
	m.inflight++
	m.mu.Unlock()
	return func(code int, took time.Duration) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.inflight--
		m.codes[code]++
		m.count++
		m.sum += took.Seconds()
		for i, bound := range bounds {
			if took.Seconds() <= bound {
				m.buckets[i]++
			}
		}
	}
}

func (m *meter) write(w io.Writer, version string, ready bool, hoarded int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	head := func(name, kind, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }

	head("app_up", "gauge", "1 while the process answers.")
	fmt.Fprintln(w, "app_up 1")
	head("app_info", "gauge", "The version that runs.")
	fmt.Fprintf(w, "app_info{version=%q} 1\n", version)
	head("app_ready", "gauge", "1 when the process calls itself ready.")
	if ready {
		fmt.Fprintln(w, "app_ready 1")
	} else {
		fmt.Fprintln(w, "app_ready 0")
	}
	head("app_uptime_seconds", "gauge", "Seconds since the process started.")
	fmt.Fprintf(w, "app_uptime_seconds %f\n", time.Since(m.begin).Seconds())
	head("app_requests_in_flight", "gauge", "Requests being answered now.")
	fmt.Fprintf(w, "app_requests_in_flight %d\n", m.inflight)
	head("app_requests_total", "counter", "Requests answered, by status code.")
	for code, n := range m.codes {
		fmt.Fprintf(w, "app_requests_total{code=\"%d\"} %d\n", code, n)
	}
	head("app_request_duration_seconds", "histogram", "Time to answer a request.")
	for i, bound := range bounds {
		fmt.Fprintf(w, "app_request_duration_seconds_bucket{le=\"%g\"} %d\n", bound, m.buckets[i])
	}
	fmt.Fprintf(w, "app_request_duration_seconds_bucket{le=\"+Inf\"} %d\n", m.count)
	fmt.Fprintf(w, "app_request_duration_seconds_sum %f\n", m.sum)
	fmt.Fprintf(w, "app_request_duration_seconds_count %d\n", m.count)

	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	head("app_leaked_bytes", "gauge", "Bytes kept by /leak.")
	fmt.Fprintf(w, "app_leaked_bytes %d\n", hoarded)
	head("go_memstats_sys_bytes", "gauge", "Bytes the Go runtime took from the system.")
	fmt.Fprintf(w, "go_memstats_sys_bytes %d\n", memory.Sys)
}
