"""Answers `!time` in the room, until it is stopped. Needs: pip install httpx httpx-sse

CHAT_URL=https://chat.example CHAT_TOKEN=chat_… python time_bot.py
"""
import os
import random
import time
from datetime import datetime, timezone

import httpx
from httpx_sse import SSEError, connect_sse

headers = {'Authorization': f'Bearer {os.environ["CHAT_TOKEN"]}'}
chat = httpx.Client(base_url=os.environ['CHAT_URL'], headers=headers, timeout=40)
me = chat.get('/api/me').raise_for_status().json()
cursor = chat.get('/api/messages', params={'limit': 1}).raise_for_status().headers['X-Event-Cursor']
print(f'{me["nickname"]} is listening', flush=True)


def answer(message):
    if message['text'] != '!time' or message['userId'] == me['userId']:
        return
    body = {'text': datetime.now(timezone.utc).isoformat(), 'replyTo': message['id']}
    response = chat.post('/api/messages', json=body, headers={'Idempotency-Key': f'time-{message["id"]}'})
    if response.is_error:
        print(f'no answer to message {message["id"]}: {response.text}', flush=True)


while True:
    try:
        with connect_sse(chat, 'GET', '/api/events', params={'since': cursor}) as source:
            for event in source.iter_sse():
                data = event.json()
                if data['type'] == 'message_created':
                    answer(data['message'])
                cursor = event.id  # After a cut, it goes on behind what is done.
    except (httpx.TransportError, SSEError) as error:
        print(f'{error}, trying again', flush=True)
    time.sleep(random.uniform(1, 3))
