package crypto

// QueuedStocks is how many partitions wait for keys to be made ahead.
func (s *Sealer) QueuedStocks() int {
	s.ahead.mu.Lock()
	defer s.ahead.mu.Unlock()
	return len(s.ahead.queue)
}
