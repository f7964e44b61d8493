// Command limited is a service of which each instance carries a known load and no more.
//
// Environment: PORT (8080), START_DELAY (a duration before it is ready), WORKERS (requests
// worked on at once), WORK (how long each takes), QUEUE (requests that may wait).
// An instance carries WORKERS / WORK requests a second; what finds the queue full is
// refused with 503 at once. Work is waiting and not computing, so that many instances on
// few processors still carry what they are said to carry.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

type limited struct {
	ready   atomic.Bool
	work    time.Duration
	workers chan struct{} // a token for each request worked on
	waiting atomic.Int64
	room    int64

	arrived, served, refused, left atomic.Int64
	nanoseconds                    atomic.Int64 // waited and worked, of the served
}

func main() {
	l := &limited{
		work:    duration("WORK", "200ms"),
		workers: make(chan struct{}, number("WORKERS", "2")),
		room:    int64(number("QUEUE", "12")),
	}
	time.AfterFunc(duration("START_DELAY", "0s"), func() { l.ready.Store(true) })

	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", l.serve)
	mux.HandleFunc("/ready", l.readiness)
	mux.HandleFunc("/metrics", l.metrics)
	server := http.Server{Addr: ":" + or("PORT", "8080"), Handler: mux}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		// Who balances the load hears of the end a moment later than we do.
		l.ready.Store(false)
		time.Sleep(duration("DRAIN", "3s"))
		os.Exit(0)
	}()
	fmt.Println(server.ListenAndServe())
	os.Exit(1)
}

func (l *limited) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	l.arrived.Add(1)
	select {
	case l.workers <- struct{}{}:
	default:
		if l.waiting.Add(1) > l.room {
			l.waiting.Add(-1)
			l.refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case l.workers <- struct{}{}:
			l.waiting.Add(-1)
		case <-r.Context().Done():
			l.waiting.Add(-1)
			l.left.Add(1)
			return
		}
	}
	time.Sleep(l.work)
	<-l.workers
	l.served.Add(1)
	l.nanoseconds.Add(int64(time.Since(begin)))
	fmt.Fprintln(w, "done")
}

func (l *limited) readiness(w http.ResponseWriter, _ *http.Request) {
	if !l.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (l *limited) metrics(w http.ResponseWriter, _ *http.Request) {
	tell := func(name, kind, help string, value float64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %g\n", name, help, name, kind, name, value)
	}
	tell("limited_requests_arrived_total", "counter", "Requests that came.", float64(l.arrived.Load()))
	tell("limited_requests_served_total", "counter", "Requests answered.", float64(l.served.Load()))
	tell("limited_requests_refused_total", "counter", "Requests that found the queue full.", float64(l.refused.Load()))
	tell("limited_requests_left_total", "counter", "Requests whose sender left the queue.", float64(l.left.Load()))
	tell("limited_seconds_total", "counter", "Seconds that served requests took.", time.Duration(l.nanoseconds.Load()).Seconds())
	tell("limited_busy_workers", "gauge", "Requests worked on now.", float64(len(l.workers)))
	tell("limited_waiting", "gauge", "Requests in the queue now.", float64(l.waiting.Load()))
}

func or(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func number(name, otherwise string) int {
	value, err := strconv.Atoi(or(name, otherwise))
	if err != nil || value < 1 {
		fmt.Printf("%s must be a whole number above zero, such as %s\n", name, otherwise)
		os.Exit(2)
	}
	return value
}

func duration(name, otherwise string) time.Duration {
	value, err := time.ParseDuration(or(name, otherwise))
	if err != nil {
		fmt.Printf("%s must be a duration, such as %s\n", name, otherwise)
		os.Exit(2)
	}
	return value
}
