// A backend behind the filter, with nothing but Go: WECOM_BACKEND_SECRET=… go run . 8080
package main

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync"
)

type callback struct {
	BaseInfo struct {
		DeviceSN string `json:"device_sn"`
	} `json:"base_info"`
	Event struct {
		EventType string `json:"event_type"`
		VerifCode string `json:"verif_code"`
	} `json:"event"`
	Command struct {
		CommandType string `json:"command_type"`
	} `json:"command"`
}

var (
	secret  = os.Getenv("WECOM_BACKEND_SECRET")
	codes   = map[string]string{"sn-1001": "123456", "sn-1002": "654321"} // serial number: what the user types
	bound   = map[string]bool{}                                           // in life, a table of the devices
	answers = map[string]string{}                                         // in life, a table whose unique key is the idempotency-key
	mutex   sync.Mutex
)

// verdict on a bind: https://developer.work.weixin.qq.com/document/path/95987 has the codes.
func verdict(device, code string) int {
	known, exists := codes[device]
	switch {
	case !exists:
		return 7
	case code != known:
		return 6
	case bound[device]:
		return 2
	}
	bound[device] = true
	return 0
}

// answer to a callback; an empty one says that it was taken.
func answer(message callback) string {
	switch message.Event.EventType + message.Command.CommandType {
	case "bind":
		return fmt.Sprintf(`{"errcode":%d}`, verdict(message.BaseInfo.DeviceSN, message.Event.VerifCode))
	case "unbind":
		delete(bound, message.BaseInfo.DeviceSN)
	case "verify_device":
		return `{"is_valid":true,"modelid":"2000000000000001"}`
	case "user_scan":
		return `{"online_status":1}`
	}
	return ""
}

func handle(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("authorization")), []byte(secret)) != 1 {
		http.Error(w, `{"error":"not the filter"}`, http.StatusUnauthorized)
		return
	}
	var message callback
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, `{"error":"not a callback"}`, http.StatusBadRequest)
		return
	}
	key := r.Header.Get("idempotency-key")
	mutex.Lock() // of several requests with one key, the first decides
	defer mutex.Unlock()
	said, exists := answers[key]
	if !exists {
		said = answer(message)
		if key != "" {
			answers[key] = said
		}
		fmt.Println("handled", r.Header.Get("x-wecom-event"), key)
	}
	w.Header().Set("content-type", "application/json")
	w.Header().Set("content-length", fmt.Sprint(len(said))) // an empty body counts as an answer only with it
	fmt.Fprint(w, said)
}

func main() {
	if secret == "" {
		log.Fatal("WECOM_BACKEND_SECRET is not set")
	}
	http.HandleFunc("/bind", handle)
	http.HandleFunc("/events", handle)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
